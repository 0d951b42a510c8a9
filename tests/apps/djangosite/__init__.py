"""A Django project as people deploy them: admin, sessions, sqlite, static files by WhiteNoise."""
