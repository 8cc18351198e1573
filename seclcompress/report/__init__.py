"""Tables, JSON, CSV and plots of figures that are computed elsewhere; one file per subject."""
