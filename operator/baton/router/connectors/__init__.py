"""How a request goes from prefill to decode: one module for each way, all with the shape of `contract.Connector`."""
