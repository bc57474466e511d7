"""The commands that ask a gateway what its model makes of users and items."""
