# Keys on NixOS: the agent of a host, the keys it has, and the manifest that says so.
{
  imports = [
    ./agent.nix
    ./items.nix
    ./manifest.nix
    ./units.nix
  ];
}
