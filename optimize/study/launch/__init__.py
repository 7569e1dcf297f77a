"""Launch, resume and join a study."""
