/* For tests only, never for a volunteer's PC: starts VirtualBox's headless front end without its kernel driver.
 *
 * VirtualBox ships VBoxHeadless as a hardened set-user-id program, which refuses to start where the kernel module
 * vboxdrv is not loaded. The library behind it is able to interpret a guest entirely in user space (its IEM, chosen by
 * `VBoxManage modifyvm --vm-execution-engine`). This program stands in for the hardened one: it initialises the runtime
 * in its driverless mode and hands over to the original front end. Disks, devices and VBoxManage are the originals.
 */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define LIBRARY_FOLDER "/usr/lib/virtualbox/"

/* From VirtualBox's include/VBox/sup.h (7.x): the flags of SUPR3InitEx that this program needs. */
enum { SUPPORT_DRIVERLESS = 0x2, SUPPORT_DRIVERLESS_BY_INTERPRETER = 0x4 };

typedef int (*runtime_init)(int argc, char ***argv, uint32_t flags);
typedef int (*support_init)(uint32_t flags, void *session);
typedef int (*front_end)(int argc, char **argv, char **environment);

static void *library(const char *path) {
    void *handle = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
    if (handle == NULL) {
        fprintf(stderr, "driverless loader: %s\n", dlerror());
        exit(2);
    }
    return handle;
}

static void *function(void *handle, const char *name) {
    void *found = dlsym(handle, name);
    if (found == NULL) {
        fprintf(stderr, "driverless loader: no %s in this VirtualBox\n", name);
        exit(2);
    }
    return found;
}

int main(int argc, char **argv, char **environment) {
    void *runtime = library(LIBRARY_FOLDER "VBoxRT.so");
    int status = ((runtime_init)function(runtime, "RTR3InitExe"))(argc, &argv, 0);
    if (status >= 0) {
        support_init init = (support_init)function(runtime, "SUPR3InitEx");
        status = init(SUPPORT_DRIVERLESS | SUPPORT_DRIVERLESS_BY_INTERPRETER, NULL);
    }
    if (status < 0) {
        fprintf(stderr, "driverless loader: VirtualBox's runtime answered %d\n", status);
        return 3;
    }
    return ((front_end)function(library(LIBRARY_FOLDER "VBoxHeadless.so"), "TrustedMain"))(argc, argv, environment);
}
