"""The search: data -> agents -> evaluation -> study -> results -> export."""
