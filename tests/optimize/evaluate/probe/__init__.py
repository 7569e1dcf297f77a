"""Tests of the linear probe."""
