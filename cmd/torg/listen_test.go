package main

import "testing"

func TestReachable(t *testing.T) {
	for addr, want := range map[string]string{
		"0.0.0.0:8800": "127.0.0.1:8800", "[::]:8800": "127.0.0.1:8800", ":8800": "127.0.0.1:8800",
		"127.0.0.1:8800": "127.0.0.1:8800", "10.0.0.9:1": "10.0.0.9:1", "[::1]:8800": "[::1]:8800", "torg.example:80": "torg.example:80",
	} {
		if got := reachable(addr); got != want {
			t.Errorf("%s is reached at %s, want %s", addr, got, want)
		}
	}
}

func TestHosts(t *testing.T) {
	cfg := config{map[string]string{"hosts": "a.example, b.example", "rpc-addr": "Box.Lan:8820", "rest-addr": "[::]:8822"}, map[string]string{}}
	got, err := hosts(cfg, "rpc-addr", "rest-addr")
	if err != nil || len(got) != 3 || got[2] != "box.lan" {
		t.Errorf("%v, %v", got, err)
	}
	cfg.value["hosts"] = "https://a.example"
	if _, err := hosts(cfg); err == nil {
		t.Error("a name that no request can have was taken")
	}
}
