// Calls every method that a token of scope watch may not call
async ([secret, job]) => {
    const { Client } = await import("/page/client.js");
    const { METHODS } = await import("/page/protocol.js");
    const client = new Client(`ws://${location.host}/ws`, secret);
    const opened = new Promise((done) => client.addEventListener("status", ({ detail }) => { if (detail.status === "open") done(); }));
    client.start();
    await opened;
    const params = { "jobs.submit": { kind: "echo", payload: "x" }, "queue.backup": { name: "x" }, "jobs.resolve": { job, resolution: "done" } };
    const codes = {};
    for (const [method, { scope, params: names }] of Object.entries(METHODS)) {
        if (scope === "watch") continue;
        const asked = params[method] ?? (names.includes("job") ? { job } : {});
        codes[method] = await client.ask(method, asked).then(() => "done", ({ code }) => code);
    }
    client.stop();
    return codes;
}
