/* Keys from files; asks nobody. Any thread. */
#include "ssh_private.h"

ssh_key hl_ssh_key_public(const char *path)
{
    char *beside = hl_asprintf("%s.pub", path);
    ssh_key pub = NULL;

    if (!beside || ssh_pki_import_pubkey_file(beside, &pub) != SSH_OK) {
        pub = NULL;
        if (ssh_pki_import_pubkey_file(path, &pub) != SSH_OK)
            pub = NULL;
    }
    hl_free(beside);
    return pub;
}

ssh_key hl_ssh_key_certificate(const char *path)
{
    ssh_key cert = NULL;

    return ssh_pki_import_cert_file(path, &cert) == SSH_OK ? cert : NULL;
}

ssh_key hl_ssh_key_plain(const char *path)
{
    ssh_key key = NULL;

    return ssh_pki_import_privkey_file(path, NULL, NULL, NULL, &key) == SSH_OK
               ? key
               : NULL;
}
