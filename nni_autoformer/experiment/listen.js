// Loaded into NNI's manager before its own code, see `exposure.listen_on`: its servers listen on one address.
'use strict';

const childProcess = require('child_process');
const net = require('net');

const host = process.env.NNI_AUTOFORMER_HOST;

// what the manager starts, trials among it, has the user's own environment again
if (process.env.NNI_AUTOFORMER_NODE_OPTIONS) {
    process.env.NODE_OPTIONS = process.env.NNI_AUTOFORMER_NODE_OPTIONS;
} else {
    delete process.env.NODE_OPTIONS;
}
delete process.env.NNI_AUTOFORMER_HOST;
delete process.env.NNI_AUTOFORMER_NODE_OPTIONS;

const listen = net.Server.prototype.listen;
net.Server.prototype.listen = function (port, ...rest) {
    if (typeof port !== 'number') {
        return listen.call(this, port, ...rest);
    }
    const others = typeof rest[0] === 'string' ? rest.slice(1) : rest;
    return listen.call(this, port, host, ...others);
};

// TensorBoard, which the manager would have listen on all addresses
const spawn = childProcess.spawn;
childProcess.spawn = function (command, words, ...rest) {
    if (command === 'tensorboard' && Array.isArray(words)) {
        words = words.map((word) => word.replace('--bind_all ', ''));
    }
    return spawn.call(this, command, words, ...rest);
};
