"""What has just happened, listed and streamed."""
