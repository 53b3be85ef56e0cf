"""What is served over HTTP; it needs the extra `serve`."""
