"""The API in OpenAI's shape: what programs ask, under the same guard as the page."""
