"""What every other package stands on: it imports nothing of ours but the errors."""
