"""How fast the pages are where much has happened."""
