"""What answers over HTTP: models (`api`), and the gallery (`explorer`)."""
