"""What holds of the tools of the testbed, without its containers."""
