"""What fresh processes run: one sample each, told to the process that started it as a line of JSON."""
