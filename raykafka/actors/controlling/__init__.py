"""Inside the controller: requests, views of the metadata, keepers of brokers and slots."""
