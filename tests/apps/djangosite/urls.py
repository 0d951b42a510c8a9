"""Which path is which view."""

from django.contrib import admin
from django.urls import path

from djangosite import views

urlpatterns = [
    path("admin/", admin.site.urls),
    path("", views.index),
    path("where/<path:rest>", views.where),
    path("upload", views.upload),
    path("download", views.download),
    path("file", views.file),
    path("moved", views.moved),
    path("visits", views.visits),
    path("crash", views.crash),
]
