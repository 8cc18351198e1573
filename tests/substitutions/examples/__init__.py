"""Families of one file each, one for each shape: that they fit is what the contract is for."""
