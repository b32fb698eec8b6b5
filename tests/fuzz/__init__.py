"""Fuzzing of whole servers."""
