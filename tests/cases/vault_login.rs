//! G8, G10: who logs in to Vault, and how; by what the `vault` command takes, and by what the manifest says.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
use std::thread;

use keys_tests::{Chaos, LIMIT, Operator, Vault, vault_manifest, wait_for};
use serde_json::{Value, json};

const READER: &str = "path \"kv/data/*\" { capabilities = [\"read\"] }";

/// An operator and a server that has `kv/login`, with a policy that may read it.
fn setting() -> (Operator, &'static Vault) {
    let vault = Vault::shared();
    vault.put("kv/login", &json!({"f": "in"}));
    vault.policy("reader", READER);
    (Operator::new(), vault)
}

/// Writes a manifest with one key, and these lines in `[vault]` beside the address.
fn logs_in(operator: &Operator, vault: &Vault, lines: &str) {
    let source = [("x", "{ vault = \"kv/login#f\" }")];
    vault_manifest(operator, &format!("{}\n{lines}", vault.line()), &source);
}

fn gets(operator: &Operator) {
    let ran = operator.keys("get x").succeeded();
    assert_eq!(ran.stdout, b"in", "{ran}");
}

fn fails(operator: &Operator, said: &str) {
    let ran = operator.keys("get x").exited(6).said(said);
    assert_eq!(ran.stdout, b"", "{ran}");
}

/// Mounts an auth method; mounted already is as good.
fn enable(vault: &Vault, method: &str) {
    let mounted = vault.api("GET", "sys/auth", &Value::Null);
    if mounted.get(format!("{method}/")).is_none() {
        vault.api(
            "POST",
            &format!("sys/auth/{method}"),
            &json!({"type": method}),
        );
    }
}

#[test]
fn a_user_logs_in_with_a_password() {
    let (operator, vault) = setting();
    enable(vault, "userpass");
    let user = json!({"password": "hunter2", "token_policies": ["reader"]});
    vault.api("POST", "auth/userpass/users/alice", &user);
    operator.write("password", "hunter2\n");
    logs_in(
        &operator,
        vault,
        "auth = { userpass = { username = \"alice\", password_file = \"password\" } }",
    );
    gets(&operator);
    operator.write("password", "hunter3\n");
    fails(
        &operator,
        "keys: x: log in at auth/userpass: Vault refused the user name or password\n",
    );
    assert!(!operator.keys("get x").stderr.contains("hunter"));
    let command =
        "auth.userpass = { username = \"alice\", password_command = [\"printf\", \"hunter2\"] }";
    logs_in(&operator, vault, command);
    gets(&operator);
    // Without a terminal nobody can be asked.
    logs_in(&operator, vault, "auth.userpass = { username = \"alice\" }");
    let mut command = Command::new("setsid");
    let keys = operator.command(&["get", "x"]);
    command.arg("-w").arg(keys.get_program()).args(["get", "x"]);
    command.env_clear().envs(
        keys.get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    command.current_dir(operator.path(""));
    let _asked = operator
        .ran(command)
        .exited(6)
        .said("cannot ask for the password: ");
}

#[test]
fn a_password_is_asked_for_on_the_terminal_and_not_shown() {
    let (operator, vault) = setting();
    enable(vault, "userpass");
    let user = json!({"password": "correct horse", "token_policies": ["reader"]});
    vault.api("POST", "auth/userpass/users/bob", &user);
    logs_in(&operator, vault, "auth.userpass = { username = \"bob\" }");
    let screen = typed(
        &operator,
        "password of bob for vault at http://127.0.0.1:",
        "correct horse",
    );
    assert_eq!(fs::read(operator.path("got")).unwrap(), b"in");
    assert!(!screen.contains("horse"), "{screen}");
}

/// Gets the key on a terminal where `answer` is typed after `question`, into the file `got`; returns what was shown.
fn typed(operator: &Operator, question: &str, answer: &str) -> String {
    let keys = operator.command(&["get", "x"]);
    let line = format!("exec {} get x >got", keys.get_program().to_str().unwrap());
    let mut command = Command::new("script");
    command.args(["-qefc", &line, "/dev/null"]);
    command.current_dir(operator.path("")).env_clear();
    let set = |(name, value): (_, Option<_>)| Some((name, value?));
    command.envs(keys.get_envs().filter_map(set));
    command.env("SHELL", "/bin/sh");
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut script = command.spawn().unwrap();
    let mut typing = script.stdin.take().unwrap();
    let mut shown = script.stdout.take().unwrap();
    let mut screen = Vec::new();
    // Not before it was asked for, as a person would: what is typed while the echo is on is shown.
    while !String::from_utf8_lossy(&screen).contains(question) {
        let mut byte = [0];
        assert_eq!(shown.read(&mut byte).unwrap(), 1);
        screen.push(byte[0]);
    }
    wait_for("the echo to be off", LIMIT, || {
        let status = Command::new("sh").args(["-c", ECHO_IS_OFF]).status();
        status.unwrap().success().then_some(())
    });
    typing.write_all(format!("{answer}\n").as_bytes()).unwrap();
    shown.read_to_end(&mut screen).unwrap();
    let screen = String::from_utf8_lossy(&screen).into_owned();
    assert!(script.wait().unwrap().success(), "{screen}");
    screen
}

/// On any terminal of the lab: it has one.
const ECHO_IS_OFF: &str = "for t in /dev/pts/[0-9]*; do stty -F $t -a 2>/dev/null | grep -q -- ' -echo ' && exit 0; done; exit 1";

/// A JWT of these claims, signed with the key in `jwt.pem`.
const SIGN: &str = r#"
set -e
[ -e jwt.pem ] || openssl genrsa -out jwt.pem 2048 2>/dev/null
openssl rsa -in jwt.pem -pubout -out jwt.pub 2>/dev/null
url() { openssl base64 -A | tr '+/' '-_' | tr -d =; }
text=$(printf '{"alg":"RS256","typ":"JWT"}' | url).$(printf %s "$1" | url)
printf %s "$text.$(printf %s "$text" | openssl dgst -sha256 -sign jwt.pem -binary | url)" >jwt
chmod 600 jwt
"#;

#[test]
fn a_ci_job_logs_in_with_its_jwt() {
    let (operator, vault) = setting();
    let sign = |audience: &str| {
        let mut command = Command::new("sh");
        let claims =
            json!({"sub": "job", "aud": audience, "exp": 4_000_000_000_u64, "iat": 1_700_000_000});
        command.args(["-c", SIGN, "sh", &claims.to_string()]);
        command.current_dir(operator.path(""));
        let _signed = operator.ran(command).succeeded();
    };
    sign("vault");
    enable(vault, "jwt");
    let public = fs::read_to_string(operator.path("jwt.pub")).unwrap();
    vault.api(
        "POST",
        "auth/jwt/config",
        &json!({"jwt_validation_pubkeys": [public]}),
    );
    let role = json!({
        "role_type": "jwt", "bound_audiences": ["vault"], "user_claim": "sub", "token_policies": ["reader"],
    });
    vault.api("POST", "auth/jwt/role/ci", &role);
    logs_in(
        &operator,
        vault,
        "auth = { jwt = { role = \"ci\", jwt_file = \"jwt\" } }",
    );
    gets(&operator);
    logs_in(
        &operator,
        vault,
        "auth = { jwt = { role = \"ci\", jwt_command = [\"cat\", \"jwt\"], mount = \"jwt\" } }",
    );
    gets(&operator);
    sign("others");
    fails(
        &operator,
        "keys: x: log in at auth/jwt: Vault refused the JWT or the role\n",
    );
}

#[test]
fn a_secret_id_may_come_wrapped_and_is_opened_once() {
    let (operator, vault) = setting();
    let (role, _plain) = vault.approle("wrapped", "reader");
    let wrap = |path: &str| operator.write("wrapped", vault.wrapped(path, "60s"));
    let auth =
        format!("auth.approle = {{ role_id = \"{role}\", wrapped_secret_id_file = \"wrapped\" }}");
    logs_in(&operator, vault, &auth);
    wrap("auth/approle/role/wrapped/secret-id");
    gets(&operator);
    fails(
        &operator,
        "the wrapping token was opened before, or has expired\nkeys: hint: if it was not you, ",
    );
    // What somebody else wrapped is not even opened.
    wrap("sys/wrapping/wrap");
    fails(
        &operator,
        "the wrapping token holds no secret id: it was made at sys/wrapping/wrap\n",
    );
    let token = fs::read_to_string(operator.path("wrapped")).unwrap();
    vault.api("POST", "sys/wrapping/lookup", &json!({"token": token}));
    // A login as a whole can be wrapped, too.
    logs_in(
        &operator,
        vault,
        "auth = { wrapped_token_file = \"wrapped\" }",
    );
    wrap("auth/token/create");
    gets(&operator);
    fails(
        &operator,
        "the wrapping token was opened before, or has expired\n",
    );
}

/// As `vault login` leaves it: by a helper of the user, else in ~/.vault-token.
#[test]
fn a_token_helper_is_asked_as_the_vault_command_asks_it() {
    let (mut operator, vault) = setting();
    let home = operator.home().to_owned();
    let token = vault.token("reader", "1h");
    logs_in(
        &operator,
        vault,
        &format!("auth = {{ token_command = [\"printf\", \"{token}\\\\n\"] }}"),
    );
    gets(&operator);
    logs_in(&operator, vault, "");
    fails(&operator, "no Vault token\n");
    fs::write(home.join(".vault-token"), "hvs.wrong").unwrap();
    fs::set_permissions(home.join(".vault-token"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(
        home.join("helper"),
        format!("#!/bin/sh\n[ $# = 1 ] && [ $1 = get ] && echo {token}\n"),
    )
    .unwrap();
    fs::set_permissions(home.join("helper"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(home.join(".vault"), "# mine\ntoken_helper = \"~/helper\"\n").unwrap();
    fs::set_permissions(home.join(".vault"), fs::Permissions::from_mode(0o644)).unwrap();
    gets(&operator);
    // The file names a program: nobody else may write it.
    fs::set_permissions(home.join(".vault"), fs::Permissions::from_mode(0o664)).unwrap();
    fails(&operator, "others may write it, and it names a program\n");
    fs::rename(home.join(".vault"), home.join("elsewhere")).unwrap();
    fs::set_permissions(home.join("elsewhere"), fs::Permissions::from_mode(0o600)).unwrap();
    fails(&operator, "Vault does not know the token");
    operator.env("VAULT_CONFIG_PATH", home.join("elsewhere"));
    gets(&operator);
    fs::write(home.join("helper"), "#!/bin/sh\nexit 3\n").unwrap();
    fails(&operator, "the token helper: exit status: 3\n");
    // The variable comes first.
    operator.env("VAULT_TOKEN", token);
    gets(&operator);
}

/// A variable, what is in it, and why that is not taken.
const REFUSED: [(&str, &str, &str); 7] = [
    (
        "VAULT_SKIP_VERIFY",
        "true",
        "VAULT_SKIP_VERIFY is set, and certificates are always verified\n",
    ),
    ("BAO_SKIP_VERIFY", "1", "VAULT_SKIP_VERIFY is set"),
    (
        "VAULT_SRV_LOOKUP",
        "true",
        "VAULT_SRV_LOOKUP is set, and is not supported\n",
    ),
    (
        "VAULT_CLIENT_TIMEOUT",
        "soon",
        "VAULT_CLIENT_TIMEOUT is no time like `60s`: soon\n",
    ),
    (
        "VAULT_CLIENT_TIMEOUT",
        "0",
        "VAULT_CLIENT_TIMEOUT is no time like `60s`: 0\n",
    ),
    (
        "VAULT_MAX_RETRIES",
        "-1",
        "VAULT_MAX_RETRIES is no number: -1\n",
    ),
    (
        "VAULT_PROXY_ADDR",
        "http://127.0.0.1:1",
        "VAULT_PROXY_ADDR is set, and the proxy would see the token",
    ),
];

/// G10: the variables of `vault` and of `bao` mean the same; two that differ are a question, not a choice.
#[test]
fn the_environment_says_what_the_manifest_does_not() {
    let (mut operator, vault) = setting();
    let token = vault.token("reader", "1h");
    vault_manifest(&operator, "", &[("x", "{ vault = \"kv/login#f\" }")]);
    operator
        .env("BAO_ADDR", vault.address())
        .env("VAULT_TOKEN", &token);
    gets(&operator);
    operator.env("VAULT_ADDR", vault.address());
    gets(&operator);
    operator.env("VAULT_ADDR", "https://other.example.org");
    fails(
        &operator,
        "BAO_ADDR and VAULT_ADDR are both set, and differ\nkeys: hint: unset the one that is not meant\n",
    );
    operator
        .env("BAO_ADDR", "")
        .env("VAULT_ADDR", vault.address())
        .env("BAO_TOKEN", "hvs.other");
    fails(
        &operator,
        "BAO_TOKEN and VAULT_TOKEN are both set, and differ\n",
    );
    operator.env("BAO_TOKEN", "");
    for (name, value, said) in REFUSED {
        operator.env(name, value);
        fails(&operator, said);
        operator.env(name, "");
    }
    operator
        .env("VAULT_SKIP_VERIFY", "false")
        .env("VAULT_CLIENT_TIMEOUT", "20s")
        .env("VAULT_MAX_RETRIES", "0");
    gets(&operator);
}

#[test]
fn an_agent_goes_before_the_server_and_may_have_a_token_of_its_own() {
    let (mut operator, vault) = setting();
    vault_manifest(&operator, "", &[("x", "{ vault = \"kv/login#f\" }")]);
    let agent = Chaos::before(vault.address());
    operator
        .env("VAULT_TOKEN", vault.token("reader", "1h"))
        .env("VAULT_AGENT_ADDR", agent.address())
        .env("VAULT_ADDR", "https://unused.example.org");
    gets(&operator);
    operator.env("VAULT_TOKEN", "");
    fails(&operator, "keys: x: ");
    let asked = agent.requests().pop().unwrap().to_ascii_lowercase();
    assert!(!asked.contains("x-vault-token"), "{asked}");
}

#[test]
fn a_server_may_listen_on_a_unix_socket() {
    let (mut operator, vault) = setting();
    let socket = operator.path("vault.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let address = vault.address().trim_start_matches("http://").to_owned();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let server = std::net::TcpStream::connect(&address).unwrap();
            let (mut from, mut to) = (stream.try_clone().unwrap(), server.try_clone().unwrap());
            thread::spawn(move || std::io::copy(&mut from, &mut to));
            let (mut from, mut to) = (server, stream);
            thread::spawn(move || std::io::copy(&mut from, &mut to));
        }
    });
    vault_manifest(&operator, "", &[("x", "{ vault = \"kv/login#f\" }")]);
    operator.env("VAULT_ADDR", format!("unix://{}", socket.display()));
    operator.env("VAULT_TOKEN", vault.token("reader", "1h"));
    gets(&operator);
}

/// Each server gets its own token: the environment is about `[vault]`.
#[test]
fn a_manifest_may_read_from_several_vaults() {
    let (mut operator, vault) = setting();
    let other = Vault::start();
    other.mount_kv("kv", keys_tests::KvVersion::Two);
    other.put("kv/login", &json!({"f": "elsewhere"}));
    operator.write("other-token", other.root_token());
    operator
        .env("VAULT_TOKEN", vault.token("reader", "1h"))
        .env("VAULT_NAMESPACE", "")
        .env("VAULT_ADDR", vault.address());
    let manifest = |vaults: &str| {
        operator.manifest(&format!(
            "id = \"lab\"\n{vaults}\n[hosts.pigeon]\n\
             [keys.here]\nhosts = [\"pigeon\"]\nsource = {{ vault = \"kv/login#f\" }}\n\
             [keys.there]\nhosts = [\"pigeon\"]\nsource = {{ vault = {{ path = \"kv/login#f\", from = \"other\" }} }}\n"
        ));
    };
    let address = format!("address = \"{}\"", other.address());
    manifest(&format!(
        "[vaults.other]\n{address}\nauth = {{ token_file = \"other-token\" }}"
    ));
    for (key, value) in [("here", "in"), ("there", "elsewhere")] {
        let ran = operator.keys(&format!("get {key}")).succeeded();
        assert_eq!(ran.stdout, value.as_bytes(), "{ran}");
    }
    several_vaults_are_named_and_say_who_we_are_there(&manifest, &operator, &address);
}

/// The environment fills none of their gaps.
fn several_vaults_are_named_and_say_who_we_are_there(
    manifest: &dyn Fn(&str),
    operator: &Operator,
    address: &str,
) {
    for (vaults, said) in [
        (
            "",
            "keys.there.source: no [vaults.other] in this manifest\n",
        ),
        (
            "[vaults.othr]\naddress = \"https://x\"\nauth = { token_file = \"t\" }",
            "keys: hint: did you mean `othr`?\n",
        ),
        (
            &format!("[vaults.other]\n{address}"),
            "vaults.other: `auth` is missing: the environment is for [vault] alone\n",
        ),
        (
            "[vaults.other]\nauth = { token_file = \"other-token\" }",
            "vaults.other: `address` is missing",
        ),
    ] {
        manifest(vaults);
        let _refused = operator.keys("get here").exited(64).said(said);
    }
}
