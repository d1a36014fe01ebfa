"""The program: turns, jobs, the server and its page. Knows engine, safety and storage."""
