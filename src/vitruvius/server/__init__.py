"""What answers over HTTP: the explorer."""
