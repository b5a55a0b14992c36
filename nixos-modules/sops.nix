# `sops.secrets`, `sops.templates` and `sops.placeholder` as sops-nix declares them: each becomes a key of this host. The host
# decrypts nothing any more, so what says how it would is accepted and has no meaning.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  key = import ./key.nix { inherit lib; };
  cfg = config.sops;
  enabled = config.services.keys.compat.sops.enable;

  accepted =
    type: default:
    mkOption {
      inherit type default;
      description = "Accepted, and without a meaning: the host decrypts nothing.";
    };
  # The same for what has no default.
  unused =
    type:
    mkOption {
      inherit type;
      description = "Accepted, and without a meaning: the host decrypts nothing.";
    };
  units = mkOption {
    type = types.listOf types.str;
    default = [ ];
    description = "Services to tell that it changed.";
  };
  number =
    description:
    mkOption {
      type = types.nullOr types.int;
      default = 0;
      inherit description;
    };
  mode = mkOption {
    type = types.str;
    default = "0400";
    description = "Its mode, in octal digits.";
  };
  owner = mkOption {
    type = types.nullOr types.str;
    default = null;
    description = "The user that owns it.";
  };

  hostKeys =
    kind:
    if config.services.openssh.enable or false then
      map (key: key.path) (
        lib.filter (key: key.type == kind && !lib.hasPrefix "/run/secrets" key.path) config.services.openssh.hostKeys
      )
    else
      [ ];

  secret =
    { name, config, ... }@given:
    {
      options = {
        name = mkOption {
          type = types.str;
          default = given.name;
          defaultText = "the attribute's name";
          description = "The name of the file below `/run/secrets`, and of the key.";
        };
        key = mkOption {
          type = types.str;
          default = if cfg.defaultSopsKey != null then cfg.defaultSopsKey else given.name;
          defaultText = "config.sops.defaultSopsKey, or the attribute's name";
          description = "The way to the value; `/` descends, and nothing stands for the whole file.";
        };
        path = mkOption {
          type = types.str;
          default =
            if config.neededForUsers then "/run/secrets-for-users/${config.name}" else "/run/secrets/${config.name}";
          defaultText = "/run/secrets/NAME";
          description = "Where it is expected: a symbolic link to the key.";
        };
        format = mkOption {
          type = types.enum [
            "yaml"
            "json"
            "binary"
            "dotenv"
            "ini"
          ];
          default = cfg.defaultSopsFormat;
          defaultText = "config.sops.defaultSopsFormat";
          description = "The format of the file.";
        };
        inherit mode owner;
        uid = number "The number of the user that owns it, where `owner` is null.";
        group = mkOption {
          type = types.nullOr types.str;
          default = if config.owner == null then null else groupOf config.owner;
          defaultText = "the group of the owner";
          description = "Its group.";
        };
        gid = number "The number of its group, where `group` is null.";
        sopsFile = mkOption {
          type = types.path;
          default = cfg.defaultSopsFile;
          defaultText = "config.sops.defaultSopsFile";
          description = "The file, encrypted with sops.";
        };
        sopsFileHash = mkOption {
          type = types.str;
          default = if cfg.validateSopsFiles then builtins.hashFile "sha256" config.sopsFile else "";
          defaultText = "the SHA-256 of the file";
          readOnly = true;
          description = "The hash of the file as it is encrypted.";
        };
        restartUnits = units;
        reloadUnits = units;
        neededForUsers = mkOption {
          type = types.bool;
          default = false;
          description = "Not supported yet: an error.";
        };
      };
    };

  template =
    { name, config, ... }@given:
    {
      options = {
        name = mkOption {
          type = types.str;
          default = given.name;
          defaultText = "the attribute's name";
          description = "The name of the file, and of the key.";
        };
        path = mkOption {
          type = types.str;
          default = "/run/secrets/rendered/${config.name}";
          defaultText = "/run/secrets/rendered/NAME";
          description = "Where it is expected: a symbolic link to the key.";
        };
        content = mkOption {
          type = types.lines;
          default = "";
          description = "The text, with placeholders.";
        };
        file = mkOption {
          type = types.path;
          default = pkgs.writeText config.name config.content;
          defaultText = "a file that holds the content";
          description = "A file that holds the text, instead of `content`; one that is there when Nix evaluates.";
        };
        inherit mode owner;
        uid = number "The number of the user that owns it, where `owner` is null.";
        group = mkOption {
          type = types.nullOr types.str;
          default = if config.owner == null then null else groupOf config.owner;
          defaultText = "the group of the owner";
          description = "Its group.";
        };
        gid = number "The number of its group, where `group` is null.";
        restartUnits = units;
        reloadUnits = units;
        text = mkOption {
          type = types.str;
          # With a file, that is what counts.
          default = if given.options.file.highestPrio < 1500 then builtins.readFile config.file else config.content;
          defaultText = "what is in the file, or the content";
          internal = true;
          readOnly = true;
          description = "The text that is rendered.";
        };
      };
    };

  groupOf = owner: config.users.users.${owner}.group or null;

  access =
    declared:
    let
      access = key.access declared.mode;
      given = name: number: if name != null then name else toString (if number == null then 0 else number);
    in
    {
      owner = lib.mkDefault (given declared.owner declared.uid);
      group = lib.mkDefault (given declared.group declared.gid);
      mode = lib.mkDefault access.mode;
      public = lib.mkDefault access.public;
      inherit (declared) restartUnits reloadUnits;
      links = [ declared.path ];
    };

  whole = declared: declared.format == "binary" || declared.key == "";
  ofSecret =
    declared:
    access declared
    // {
      source = lib.mkDefault {
        sops = {
          file = declared.sopsFile;
          inherit (declared) format;
        }
        // lib.optionalAttrs (!whole declared) { inherit (declared) key; };
      };
    };

  # What stands for a secret in texts. Nothing of the secret is in it.
  placeholder = name: "<SOPS:${builtins.hashString "sha256" name}:PLACEHOLDER>";
  ofTemplate =
    declared:
    let
      names = builtins.attrNames cfg.secrets;
      used = lib.filter (name: lib.hasInfix (placeholder name) declared.text) names;
      # By numbers: the names of values have fewer letters than those of secrets.
      number = builtins.listToAttrs (lib.imap0 (index: name: lib.nameValuePair name "secret${toString index}") used);
    in
    access declared
    // {
      source = lib.mkDefault {
        template = {
          text = builtins.replaceStrings ([ "{{" ] ++ map placeholder used) (
            [ ''{{ "{{" }}'' ] ++ map (name: "{{ ${number.${name}} }}") used
          ) declared.text;
          values = builtins.listToAttrs (
            map (name: lib.nameValuePair number.${name} { key = cfg.secrets.${name}.name; }) used
          );
        };
      };
    };

  check = what: condition: text: {
    assertion = condition;
    message = "sops.${what}: ${text}";
  };
  numbers = what: declared: [
    (check what (declared.owner == null || declared.uid == 0) "both owner and uid")
    (check what (declared.group == null || declared.gid == 0) "both group and gid")
  ];
  ofSecretChecks =
    name: declared:
    numbers "secrets.${name}" declared
    ++ [
      (check "secrets.${name}" (!declared.neededForUsers)
        "neededForUsers is not supported yet: this key would come after the users are made"
      )
    ];
  ofTemplateChecks =
    name: declared:
    numbers "templates.${name}" declared
    ++ [
      (check "templates.${name}" (builtins.match ".*<SOPS:[0-9a-f]{64}:PLACEHOLDER>.*" (rendered declared) == null)
        "a placeholder in it is of no secret that is declared"
      )
    ];
  # On one line, as `.` of a pattern is any character but in some libraries a newline.
  rendered = declared: builtins.replaceStrings [ "\n" ] [ " " ] (ofTemplate declared).source.content.template.text;

  named = name: value: { inherit name value; };
in
{
  imports = [ ./default.nix ];

  options = {
    services.keys.compat.sops.enable = mkOption {
      type = types.bool;
      default = true;
      description = "Whether `sops.secrets` and `sops.templates` become keys, where their module is imported.";
    };
    sops = {
      secrets = mkOption {
        type = types.attrsOf (types.submodule secret);
        default = { };
        description = "Secrets as sops-nix declares them.";
      };
      templates = mkOption {
        type = types.attrsOf (types.submodule template);
        default = { };
        description = "Texts with secrets in them.";
      };
      placeholder = mkOption {
        type = types.attrsOf types.str;
        default = { };
        description = "What stands for each secret in a template.";
      };
      defaultSopsFile = mkOption {
        type = types.path;
        description = "The file of secrets that name none.";
      };
      defaultSopsFormat = mkOption {
        type = types.str;
        default = "yaml";
        description = "The format of files of secrets that name none.";
      };
      defaultSopsKey = mkOption {
        type = types.nullOr types.str;
        default = null;
        description = "The key of secrets that name none; an empty one stands for the whole file.";
      };
      validateSopsFiles = mkOption {
        type = types.bool;
        default = true;
        description = "Whether `sopsFileHash` is made. The files are read when keys are sent.";
      };
      keepGenerations = accepted types.ints.unsigned 1;
      log = accepted (types.listOf (
        types.enum [
          "keyImport"
          "secretChanges"
        ]
      )) [
        "keyImport"
        "secretChanges"
      ];
      environment = accepted (types.attrsOf (types.either types.str types.path)) { };
      package = unused types.package;
      validationPackage = unused types.package;
      useTmpfs = accepted types.bool false;
      useSystemdActivation = mkOption {
        type = types.bool;
        default = config.systemd.sysusers.enable or false || config.services.userborn.enable or false;
        defaultText = "whether sysusers or userborn is used";
        description = "Accepted, and without a meaning: the host decrypts nothing.";
      };
      age = {
        keyFile = accepted (types.nullOr types.path) null;
        plugins = accepted (types.listOf types.package) [ ];
        generateKey = accepted types.bool false;
        sshKeyPaths = accepted (types.listOf types.path) (hostKeys "ed25519") // {
          defaultText = "the ed25519 host keys of sshd";
        };
      };
      gnupg = {
        home = accepted (types.nullOr types.str) null;
        sshKeyPaths = accepted (types.listOf types.path) (hostKeys "rsa") // {
          defaultText = "the RSA host keys of sshd";
        };
        package = unused types.package;
      };
    };
  };

  config = lib.mkIf enabled {
    sops.placeholder = lib.mkIf (cfg.templates != { }) (builtins.mapAttrs (name: _: placeholder name) cfg.secrets);
    services.keys.items = builtins.listToAttrs (
      map (declared: named declared.name (ofSecret declared)) (builtins.attrValues cfg.secrets)
      ++ map (declared: named declared.name (ofTemplate declared)) (builtins.attrValues cfg.templates)
    );
    services.keys.checks =
      builtins.concatLists (lib.mapAttrsToList ofSecretChecks cfg.secrets)
      ++ builtins.concatLists (lib.mapAttrsToList ofTemplateChecks cfg.templates)
      ++ map (name: check "templates.${name}" false "a secret has this name, too") (
        lib.filter (
          name: builtins.elem cfg.templates.${name}.name (map (secret: secret.name) (builtins.attrValues cfg.secrets))
        ) (builtins.attrNames cfg.templates)
      );
  };
}
