"""Notes, figures, pictures and tables made from recorded results."""
