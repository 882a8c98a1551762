"""Authentication, permissions and limits of the web application."""
