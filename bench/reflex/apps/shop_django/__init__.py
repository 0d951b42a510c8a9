"""The shop on Django, with its ORM and psycopg 3."""
