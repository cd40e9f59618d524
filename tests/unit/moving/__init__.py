"""Tests of moving zones in and out."""
