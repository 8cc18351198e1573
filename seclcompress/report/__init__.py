"""Tables, JSON, CSV and pictures of figures that are computed elsewhere; one file a subject."""
