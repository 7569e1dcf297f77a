"""Reports: one self-contained HTML file for a trial, a study or a bundle."""
