"""A real server for tests, notebooks and first steps, which ends with the program that started it."""

from .local_service import LocalService as LocalService
