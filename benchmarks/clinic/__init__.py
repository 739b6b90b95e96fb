"""A Django application with the tables of a ward, for :mod:`benchmarks.django_orm`."""
