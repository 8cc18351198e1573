"""Example families, one file for each shape. The contract must allow all of them."""
