"""What happens around Corral: install, start, test, update, move, remove. Standard library only."""
