"""What a person does with networks, each as one typed function; the command line is a shell on them.

A workflow takes plain values and settings, tells an `Observer` what happens, raises errors in words,
and returns what came of it.
"""
