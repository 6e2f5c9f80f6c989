"""Embedding dimension search for Keras."""
