# `age.secrets` as agenix declares it: each becomes a key of this host. The host decrypts nothing any more, so what says how it
# would is accepted and has no meaning; the files must be encrypted to the operators.
{ config, lib, ... }:
let
  inherit (lib) mkOption types;
  key = import ./key.nix { inherit lib; };
  cfg = config.age;

  secret =
    { name, config, ... }@given:
    {
      options = {
        name = mkOption {
          type = types.str;
          default = given.name;
          defaultText = "the attribute's name";
          description = "The name of the file in `age.secretsDir`, and of the key.";
        };
        file = mkOption {
          type = types.path;
          description = "The file, encrypted with age.";
        };
        path = mkOption {
          type = types.str;
          default = "${cfg.secretsDir}/${config.name}";
          defaultText = "/run/agenix/NAME";
          description = "Where it is expected: a symbolic link to the key.";
        };
        mode = mkOption {
          type = types.str;
          default = "0400";
          description = "Its mode, in octal digits.";
        };
        owner = mkOption {
          type = types.str;
          default = "0";
          description = "The user that owns it.";
        };
        group = mkOption {
          type = types.str;
          default = groupOf config.owner;
          defaultText = "the group of the owner, or \"0\"";
          description = "Its group.";
        };
        symlink = mkOption {
          type = types.bool;
          default = true;
          description = "Always a link: `false` is an error, as no plaintext is put elsewhere.";
        };
      };
    };
  groupOf = owner: config.users.users.${owner}.group or "0";

  item =
    declared:
    let
      access = key.access declared.mode;
    in
    {
      source = lib.mkDefault { age = { inherit (declared) file; }; };
      owner = lib.mkDefault declared.owner;
      group = lib.mkDefault declared.group;
      mode = lib.mkDefault access.mode;
      public = lib.mkDefault access.public;
      links = [ declared.path ];
    };
in
{
  imports = [ ./default.nix ];

  options = {
    services.keys.compat.age.enable = mkOption {
      type = types.bool;
      default = true;
      description = "Whether `age.secrets` become keys, where its module is imported.";
    };
    age = {
      secrets = mkOption {
        type = types.attrsOf (types.submodule secret);
        default = { };
        description = "Secrets as agenix declares them.";
      };
      secretsDir = mkOption {
        type = types.path;
        default = "/run/agenix";
        description = "Where secrets are expected that name no path.";
      };
      secretsMountPoint = mkOption {
        type = types.path;
        default = "/run/agenix.d";
        description = "Accepted, and without a meaning: the keys are at `/run/keys`.";
      };
      ageBin = mkOption {
        type = types.str;
        default = "age";
        description = "Accepted, and without a meaning: the host decrypts nothing.";
      };
      identityPaths = mkOption {
        type = types.listOf types.path;
        default =
          if config.services.openssh.enable or false then
            map (key: key.path) (
              lib.filter (key: key.type == "rsa" || key.type == "ed25519") config.services.openssh.hostKeys
            )
          else
            [ ];
        defaultText = "the RSA and ed25519 host keys of sshd";
        description = "Accepted, and without a meaning: the host decrypts nothing.";
      };
    };
  };

  config = lib.mkIf config.services.keys.compat.age.enable {
    services.keys.items = builtins.listToAttrs (
      map (declared: {
        inherit (declared) name;
        value = item declared;
      }) (builtins.attrValues cfg.secrets)
    );
    services.keys.checks = lib.mapAttrsToList (name: declared: {
      assertion = declared.symlink;
      message = "age.secrets.${name}: symlink = false would put the secret on a disk; it is always a link to /run/keys";
    }) cfg.secrets;
  };
}
