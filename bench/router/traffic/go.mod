// The engines and the clients of the router's benchmark. Nothing outside of the standard library.
module traffic

go 1.24
