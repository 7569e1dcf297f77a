"""Reading bars from files: formats, headers, columns, numbers and stamps in the forms that sources write."""
