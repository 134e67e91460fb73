"""What the services' HTTP interfaces share, and the form of each one's requests and answers."""
