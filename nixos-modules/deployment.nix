# `deployment.keys` as NixOps, Colmena and wire declare it, for configurations that have it: each becomes a key of this host.
{ lib, ... }:
let
  inherit (lib) mkOption types;
  key = import ./key.nix { inherit lib; };

  declared =
    { name, config, ... }:
    {
      options = {
        name = mkOption {
          type = types.str;
          default = name;
          defaultText = "the attribute's name";
          description = "The name of the file.";
        };
        text = mkOption {
          type = types.nullOr types.str;
          default = null;
          description = "Not supported, as what Nix evaluates is no secret any more: an error that names what to use instead.";
        };
        keyCommand = mkOption {
          type = types.nullOr (types.listOf types.str);
          default = null;
          description = "A program and its arguments that prints the secret, on the operator's machine. It may ask on the terminal.";
        };
        keyFile = mkOption {
          type = types.nullOr types.path;
          default = null;
          apply = path: if path == null then null else toString path;
          description = "A file on the operator's machine.";
        };
        vault = mkOption {
          type = types.nullOr (
            types.submodule {
              options = {
                path = mkOption {
                  type = types.str;
                  description = "The mount and the path of a secret in Vault.";
                };
                field = mkOption {
                  type = types.str;
                  description = "The field of it; `a/b` descends.";
                };
              };
            }
          );
          default = null;
          description = "A field of a secret in Vault, read when keys are sent.";
        };
        destDir = mkOption {
          type = types.path;
          default = "/run/keys";
          apply = toString;
          description = "Where the key is expected. Outside of `/run/keys` a symbolic link is made there; no plaintext is.";
        };
        path = mkOption {
          type = types.path;
          default = "${lib.removeSuffix "/" config.destDir}/${config.name}";
          defaultText = "DESTDIR/NAME";
          internal = true;
          description = "The whole path.";
        };
        user = mkOption {
          type = types.str;
          default = "root";
          description = "The user that owns it, by name or number.";
        };
        group = mkOption {
          type = types.str;
          default = "root";
          description = "Its group.";
        };
        permissions = mkOption {
          type = types.str;
          default = "0600";
          description = "Its mode, in octal digits. Execute bits are dropped.";
        };
        uploadAt = mkOption {
          type = types.enum [
            "pre-activation"
            "post-activation"
          ];
          default = "pre-activation";
          description = "Accepted, and without a meaning: `keys send` sends all keys, before or after an activation.";
        };
        environment = mkOption {
          type = types.attrsOf types.str;
          default = { };
          description = "What is added to the environment of `keyCommand`.";
        };
        service = mkOption {
          type = types.str;
          default = key.unit (key.ofDeployment name config.path);
          defaultText = "NAME-key.service";
          internal = true;
          description = "The unit that others wait for.";
        };
      };
    };
in
{
  imports = [ ./colmena.nix ];

  options.deployment.keys = mkOption {
    type = types.attrsOf (types.submodule declared);
    default = { };
    description = "Keys as NixOps and Colmena declare them.";
  };
}
