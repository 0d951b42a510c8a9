"""Django over ASGI: the project of django_app, whose asynchronous view answers at /async."""

import django_app  # noqa: F401: configures Django
from django.core.asgi import get_asgi_application

app = get_asgi_application()
