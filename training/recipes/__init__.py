"""Whole training runs, as they were carried out for the models that ship with the project."""
