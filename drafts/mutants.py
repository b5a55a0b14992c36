import subprocess,sys
R='/work/wt/age/'
M=[
('age-pq-any-point','sources_age::the_vectors_of_age_open_or_fail_as_they_should','A low-order point is as good as any.',
 'pusher/src/identity/postquantum.rs','if sender.is_some() || !shared.was_contributory() {\n            return Err(HpkeError::DecapError);','if sender.is_some() {\n            return Err(HpkeError::DecapError);'),
('age-stanza-without-end','sources_age::the_vectors_of_age_open_or_fail_as_they_should','Stanzas without an end, of beta versions, are taken.',
 'pusher/src/age_file.rs','if next && stanza_is_open {','if next && stanza_is_open && start == 0 {'),
('age-any-work','sources_age::files_that_would_cost_too_much_are_refused_at_once,sources_age::the_vectors_of_age_open_or_fail_as_they_should','A passphrase is asked for whatever work follows.',
 'pusher/src/identity/passphrase.rs','const LARGEST_FACTOR: u8 = 22;','const LARGEST_FACTOR: u8 = 30;'),
('age-any-header','sources_age::files_that_would_cost_too_much_are_refused_at_once','A header may be of any size.',
 'pusher/src/age_file.rs','if line.len() == room || stanzas > MOST_STANZAS || work > MOST_WORK {','if line.len() == room {'),
('age-asked-before-needed','sources_age::an_identity_file_under_a_passphrase_is_asked_for_once_and_only_if_needed','A locked file is asked for before open identities were tried.',
 'pusher/src/identity.rs','self.open().chain(printed).chain(self.found.locked(recipient))','self.found.locked(recipient).chain(printed).chain(self.open())'),
('age-any-plugin','sources_age::only_plugins_that_the_manifest_names_are_run_from_absolute_folders','An identity has its plugin run, named or not.',
 'pusher/src/identity/keyfile.rs','Some(name) if means.plugins.contains(&name) => {','Some(name) if !means.plugins.contains(&name) || !name.to_string().is_empty() => {'),
('age-plugin-sees-all','sources_age::a_plugin_asks_on_the_terminal_and_is_told_nothing_that_it_should_not_see','A plugin gets the whole environment.',
 'pusher/src/identity/plugin/running.rs','            command.env_remove(name);','            command.env("SEEN", name);'),
('age-recipient-untold','sources_age::identities_are_where_sops_has_them','A program of the user is not told which identity is wanted.',
 'pusher/src/identity/printed.rs','Some(recipient) => Some((RECIPIENT.to_owned(), recipient.to_owned())),','Some(recipient) => Some((RECIPIENT.to_owned(), recipient[..4].to_owned())),'),
('age-one-in-a-line','sources_age::identities_are_where_sops_has_them','Only the first identity of a line counts.',
 'pusher/src/identity/keyfile.rs','line.split_ascii_whitespace()','line.split_ascii_whitespace().take(1)'),
('age-ssh-key-unconverted','sources_age::ssh_keys_open_what_is_encrypted_to_them_or_say_why_not','An ed25519 key is not the identity that ssh-to-age makes of it.',
 'pusher/src/identity/ssh.rs','        identities.push(Box::new(identity));\n','        drop(identity);\n'),
('recipients-revoked','recipients::known_keys_are_those_that_ssh_would_accept','A revoked host key is as good as any.',
 'pusher/src/known_hosts.rs','known.retain(|key| !revoked.contains(key));','known.retain(|key| !revoked.contains(key) || key.is_ed25519());'),
('recipients-first-of-several','recipients::known_keys_are_those_that_ssh_would_accept','Of several keys the first is taken.',
 'pusher/src/recipients.rs','(Some(key), None, _) => return of_key(key),','(Some(key), _, _) if key.is_ed25519() => return of_key(key),'),
('recipients-pin-ignored','recipients::known_keys_are_those_that_ssh_would_accept,recipients::pinned_keys_give_what_ssh_to_age_gives','A pin does not count.',
 'pusher/src/recipients.rs','Some(pinned) => vec![pinned.clone()],','Some(_) if manifest_pins_nothing() => Vec::new(),\n        Some(_) => known_hosts::keys(host, settings).await?,'),
]
M[-1]=(M[-1][0],M[-1][1],M[-1][2],M[-1][3],M[-1][4],'Some(_) => known_hosts::keys(host, settings).await?,')
def git(*a): return subprocess.run(['git','-C',R,*a],check=True,capture_output=True,text=True).stdout
for name,tests,what,f,old,new in M:
    p=R+f; s=open(p).read()
    if s.count(old)!=1: print('NOT ONCE',name,s.count(old)); continue
    open(p,'w').write(s.replace(old,new))
    d=git('diff','--',f)
    open(p,'w').write(s)
    head=''.join(f'# turns red: {t}\n' for t in tests.split(','))
    open(R+f'tests/mutants/{name}.patch','w').write(head+f'# {what}\n'+d)
print('ok')
