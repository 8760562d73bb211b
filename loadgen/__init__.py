"""loadgen: open-model chat load over WebSocket, every arrival recorded."""
