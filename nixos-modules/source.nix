# Sources as the manifest has them: paths as texts, and nothing in clear from the store.
{ lib, root }:
let
  # A path that Nix knows is a text for the manifest: relative where it lies in the project's folder.
  relative =
    text: if root == null then text else lib.removePrefix "${builtins.unsafeDiscardStringContext (toString root)}/" text;

  place =
    value:
    if builtins.isPath value then
      relative (toString value)
    else if builtins.isAttrs value && !(value ? outPath) then
      builtins.mapAttrs (_: place) value
    else if builtins.isList value then
      map place value
    else if builtins.isAttrs value then
      toString value
    else
      value;

  # Where a path is all that a source says, in its short form or its long one.
  inStore = value: (builtins.isPath value || builtins.isString value) && lib.hasPrefix builtins.storeDir (toString value);
in
rec {
  kinds = [
    "vault"
    "vault_secret_id"
    "sops"
    "age"
    "file"
    "command"
    "prompt"
    "generate"
    "public"
    "key"
    "template"
  ];

  inherit relative;

  # A source for the manifest. Files of sops and age may be anywhere, as they are encrypted.
  written =
    source:
    place (
      source
      // lib.optionalAttrs (source ? sops) { sops = file source.sops; }
      // lib.optionalAttrs (source ? age) { age = file source.age; }
    );

  file =
    value:
    if builtins.isString value then
      relative value
    else if builtins.isAttrs value && value ? file then
      value // { file = relative (toString value.file); }
    else
      value;

  # The plaintext that a source, or a part of it, would have taken from the store.
  leaks =
    source:
    let
      parts =
        builtins.attrValues (source.template.values or { })
        ++ lib.optional (source ? public) source.public
        ++ lib.optional (source ? generate && source.generate ? of) source.generate.of;
      own = lib.filter inStore (
        lib.optional (source ? file) source.file ++ lib.optional (source ? template && source.template ? file) source.template.file
      );
    in
    map toString own ++ builtins.concatMap leaks parts;

  # What is wrong with the kinds of a source; nothing where it is of one.
  kindOf =
    source:
    let
      named = builtins.attrNames (
        removeAttrs source [
          "as"
          "encoding"
        ]
      );
      unknown = lib.filter (kind: !builtins.elem kind kinds) named;
    in
    if unknown != [ ] then
      "no kind of source: ${builtins.concatStringsSep ", " unknown}; there are ${builtins.concatStringsSep ", " kinds}"
    else if builtins.length named != 1 then
      "a source is of one kind, and this one is of ${toString (builtins.length named)}"
    else
      null;
}
