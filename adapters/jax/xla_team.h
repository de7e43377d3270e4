/* The threads of XLA's own pool, as helpers of the team. */

#ifndef FASTLOGITS_XLA_TEAM_H
#define FASTLOGITS_XLA_TEAM_H

#include "team/team.h"
#include "xla_ffi.h"

typedef struct {
    team_pool pool;
    const xla_ffi_call *call;
    void (*help)(void);
} xla_team;

/* A task of XLA's may run long after the job that it was meant for: it helps with what there is, if anything. */
static void xla_help(void *help)
{
    ((void (*)(void))help)();
}

static void xla_invite(team_pool *pool, int helpers)
{
    const xla_team *team = (const xla_team *)pool;
    while (helpers--) {
        xla_ffi_schedule_args args = {sizeof args, NULL, team->call->context, xla_help, (void *)team->help};
        xla_ffi_error *error = team->call->api->schedule(&args);
        if (error != NULL) {
            xla_ffi_error_destroy_args destroyed = {sizeof destroyed, NULL, error};
            team->call->api->error_destroy(&destroyed);
        }
    }
}

#endif
