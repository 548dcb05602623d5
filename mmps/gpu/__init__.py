"""Tells what a GPU would do, on a machine that has none, and checks one that is there."""
