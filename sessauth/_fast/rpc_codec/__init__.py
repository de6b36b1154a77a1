"""Messages of the checks, read and written without protobuf objects."""
