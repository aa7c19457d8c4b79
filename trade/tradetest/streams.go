package tradetest

func streams() map[string]func(*town) { return nil }
