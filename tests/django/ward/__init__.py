"""A small Django app for the tests: wards, patients, notes."""
